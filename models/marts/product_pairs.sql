{{ config(materialized='view') }} -- twice the rows of the largest table, read a few at a time

with

products as (

    select
        products_keyed.product_id,
        catalogue.product_name,
        catalogue.category_code,
        products_keyed.product_number,
        products_keyed.basket_count
    from {{ ref('int_products_keyed') }} as products_keyed
    left join {{ ref('stg_products') }} as catalogue
        on products_keyed.product_id = catalogue.product_id

),

directed as (

    {{ directed_pairs(ref('int_product_pairs_counted')) }}

),

baskets as (

    select basket_count as total_basket_count
    from {{ ref('int_data_measured') }}

),

named as (

    select
        product.product_id,
        product.product_name,
        other_product.product_id as other_product_id,
        other_product.product_name as other_product_name,
        other_product.category_code as other_category_code,
        directed.copurchase_count,
        product.basket_count,
        other_product.basket_count as other_basket_count,
        baskets.total_basket_count
    from directed
    inner join products as product
        on directed.product_number = product.product_number
    inner join products as other_product
        on directed.other_product_number = other_product.product_number
    cross join baskets

),

measured as (

    select
        product_id,
        product_name,
        other_product_id,
        other_product_name,
        other_category_code,
        copurchase_count,
        basket_count,
        other_basket_count,
        total_basket_count,
        {{ evidence_measures('other_basket_count') }},
        {{ evidence_class() }} as evidence
    from named

)

select * from measured
