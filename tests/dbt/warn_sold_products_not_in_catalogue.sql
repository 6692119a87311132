{{ config(severity = 'warn') }}

select
    products.product_id,
    products.basket_count
from {{ ref('int_products_keyed') }} as products
cross join {{ ref('int_data_measured') }} as measured
where
    not products.is_in_catalogue
    and measured.unlisted_purchase_count
    > {{ var('unlisted_share_warned') }} * measured.purchase_count
