with

products as (

    select
        product_id,
        product_key,
        row_number() over (order by basket_count desc, product_id asc) as expected_product_key
    from {{ ref('int_products_keyed') }}

)

select * from products
where product_key <> expected_product_key
