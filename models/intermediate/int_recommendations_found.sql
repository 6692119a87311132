{{ config(materialized="ephemeral") }} -- without blocks and threshold, the shortlist as it is

with

-- Two scans are cheaper than a copy.
shortlist as not materialized (

    select
        product_id,
        recommended_product_id,
        recommended_basket_count,
        copurchase_count
    from {{ ref('int_product_pairs_shortlisted') }}

),

blocked as (

    select
        product_id,
        recommended_product_id
    from {{ ref('int_recommendations_blocked') }}

),

products as (

    select
        product_id,
        product_number,
        basket_count,
        is_in_catalogue
    from {{ ref('int_products_keyed') }}

),

-- Where a block takes a pair off the shortlist, the next best is among all pairs of the product.
shortened_products as (

    select distinct
        products.product_id,
        products.product_number
    from shortlist
    semi join blocked
        on
            shortlist.product_id = blocked.product_id
            and shortlist.recommended_product_id = blocked.recommended_product_id
    inner join products
        on shortlist.product_id = products.product_id

),

directed as not materialized (

    {{ directed_pairs(ref('int_product_pairs_counted')) }}

),

pairs as (

    select
        shortlist.product_id,
        shortlist.recommended_product_id,
        shortlist.recommended_basket_count,
        shortlist.copurchase_count
    from shortlist
    anti join shortened_products
        on shortlist.product_id = shortened_products.product_id

    union all

    select
        shortened_products.product_id,
        recommended_product.product_id as recommended_product_id,
        recommended_product.basket_count as recommended_basket_count,
        directed.copurchase_count
    from directed
    inner join shortened_products
        on directed.product_number = shortened_products.product_number
    inner join products as recommended_product
        on directed.other_product_number = recommended_product.product_number
    where recommended_product.is_in_catalogue

),

found as (

    select pairs.*
    from pairs
    anti join blocked
        on
            pairs.product_id = blocked.product_id
            and pairs.recommended_product_id = blocked.recommended_product_id
    where pairs.copurchase_count >= {{ var('min_copurchase_count') }}

)

select * from found
